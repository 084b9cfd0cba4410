package cluster

// Engine is a connection to what carries messages between hubs. A Member calls its methods from one
// goroutine each, and no more after Close.
//
// An engine looks after its connection itself: it connects in the background, and when it has lost the
// connection it tries again without end, with growing pauses that differ from hub to hub. It then asks
// again for what it had been asked for, many subjects at a time, before it calls Handler.Up.
type Engine interface {
	// Kind names the engine, as flags and metrics do.
	Kind() string

	// Start begins to connect, and returns without waiting for it. The error is about the configuration.
	Start(h Handler) error

	// Subscribe asks for the messages of subjects, and Unsubscribe asks for them no more. Both may be called
	// while there is no connection, and change what is asked for when there is one again. Nothing falls between the two: what was asked for with Subscribe
	// has taken effect before Unsubscribe gives anything up, and what was on its way until then is still received.
	Subscribe(subjects ...Subject)
	Unsubscribe(subjects ...Subject)

	// Publish hands a message over; it does not come back to this Engine's own subscriptions. It may wait for the connection to take it, but not for one to be made:
	// without a connection it returns an error at once, and so it does if the message was not taken. Messages
	// of one Engine arrive in the order of the calls. Neither argument is kept.
	Publish(subject string, data []byte) error

	// MaxBytes is the largest message that the server takes, 0 for any. It is asked when Handler.Up is called.
	MaxBytes() int64

	// Flush hands over what Publish has only gathered.
	Flush()

	// Server is where it is connected, for operators: without credentials. "" for nowhere.
	Server() string

	// Close ends the connection. The Handler is not called any more once it has returned.
	Close()
}

// refuser is an Engine whose connections are with other hubs, which it may refuse, and they it.
type refuser interface {
	// Refusals is how often that has happened.
	Refusals() uint64
}

// Handler is what an Engine calls.
type Handler interface {
	// Receive takes a message. source is the Subject.Name of the subscription it came by: with subscriptions that overlap
	// a message comes once for each. All messages are given from one goroutine, in the order of their
	// arrival, and Receive does not block. data is the Handler's to keep.
	Receive(source, subject string, data []byte)

	// Up says that there is a connection, Down that it is lost or that none could be made. Up and Down alternate, beginning with
	// either; they may be called while Receive is.
	Up()
	Down(cause error)

	// Lost says that messages were on their way to this hub and are lost, though the connection is there: n of
	// them, or 0 if nobody knows; those of one hub, or with "" of any.
	Lost(n uint64, hub string)

	// Met says that another hub can be reached that could not before, where an engine knows.
	Met()
}

// Subject is one subscription.
type Subject struct {
	Name string
	// Glob: the name selects many subjects, in the engine's own spelling of wildcards.
	Glob bool
}

// The states of a connection, as in fanout.EngineInfo.
const (
	stateUp   = "up"
	stateAway = "away"
)
