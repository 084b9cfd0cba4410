// Package client is a spoke in Go: it holds one WebSocket connection to a hub, hands the hub's events
// to listeners, dispatches events to the hub, and comes back by itself when the connection ends.
//
// # Life of a client
//
// [Dial] returns when the hub has taken the connection. From then on the client reconnects until
// [Client.Close] is called, the context given to Dial is cancelled, or the hub refuses it for good
// ([RefusedError.Permanent], or close code 4001). Then [Client.Done] is closed and [Client.Err] says
// which. Between two connections it waits, in this order of precedence:
//
//   - what the hub's __drain said, exactly, counted from the end of the connection;
//   - the Retry-After of a refusal, and the backoff on top of it;
//   - the backoff: a random time up to a ceiling that begins at [Options.BackoffMin] and doubles with
//     every failure up to [Options.BackoffMax]. A connection that lasted for BackoffMax starts it anew.
//
// # What is delivered
//
// Towards the hub, events are queued and leave in the order of [Client.Dispatch]; while the client is
// away they wait, up to [Options.QueueBytes]. An event leaves the queue once the operating system has
// taken all of it. It is never sent twice, and if the connection breaks after that moment it may be
// lost: there are no acknowledgements. From the hub, events dispatched while the client is away are
// not received; what the hub drops for a connected spoke is reported to [Options.OnGap].
//
// # Listening and subscribing
//
// [Client.AddListener] chooses what the program looks at, [Client.Subscribe] what the hub sends. They
// are separate because a hub sends everything to a spoke until its first subscription, and only what
// was subscribed to from then on: were a listener to subscribe, adding one would silently take events
// away from the others. [Options.SubscribeListeners] joins the two for programs in which every
// listener should be a subscription.
//
// Subscriptions are remembered. On a new connection they are sent before any event. Until the hub has
// read them it may send other events, unless the URL names topics ("?topic=tick:42&topic=order:*"):
// such a connection begins with these alone.
//
// # Goroutines
//
// Every callback, whether a listener or from [Options], runs on the goroutine that reads the
// connection, one at a time, in the order in which things happened. While one runs nothing is read, so it must
// not block. It may call every method of the client. A panic in it is logged and otherwise ignored.
// The methods of a [Client] may be called from any goroutine.
package client
