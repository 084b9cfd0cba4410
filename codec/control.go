package codec

import (
	"bytes"
	"fmt"
	"reflect"

	"github.com/bytedance/sonic"
)

// ReservedPrefix begins the types that belong to the hub.
const ReservedPrefix = "__"

// The reserved types.
const (
	TypeSubscribe    = "__subscribe"    // spoke to hub
	TypeUnsubscribe  = "__unsubscribe"  // spoke to hub
	TypeSubscribed   = "__subscribed"   // hub to spoke, the answer
	TypeUnsubscribed = "__unsubscribed" // hub to spoke, the answer
	TypeWelcome      = "__welcome"      // hub to spoke, the first event
	TypeGap          = "__gap"          // hub to spoke, where events are missing
	TypeError        = "__error"        // hub to spoke
	TypeDrain        = "__drain"        // hub to spoke: the hub goes away
	TypeAuth         = "__auth"         // spoke to hub: a fresh token
	TypeAuthed       = "__authed"       // hub to spoke, the answer
)

// The codes of Error.
const (
	CodeBadEnvelope = "bad_envelope"
	CodeBadTopic    = "bad_topic"
	CodeTooMany     = "too_many_topics"
	CodeTopicMemory = "topic_memory" // the hub has no room for more subscriptions at the moment
	CodeOverloaded  = "overloaded"
	CodeTooLarge    = "too_large"
	CodeRateLimited = "rate_limited"    // more messages than a spoke may send
	CodeForbidden   = "forbidden"       // beyond what the spoke's claims allow
	CodeBadToken    = "unauthenticated" // of __auth; the one before goes on being good
	CodeUnavailable = "unavailable"     // of __auth: it cannot be told at the moment
)

// Welcome is the payload of the first event on a connection.
type Welcome struct {
	Spoke string `json:"spoke"` // the spoke's id
	Node  string `json:"node"`  // the hub's name
	// ExpiresInMs is when the spoke will be closed unless it has sent a fresh token; 0 for never.
	ExpiresInMs int64 `json:"expiresInMs,omitempty"`
}

// Gap is the payload that stands in a stream where events are missing.
type Gap struct {
	Dropped   uint64 `json:"dropped"`
	Conflated uint64 `json:"conflated"`
	Reason    string `json:"reason"`
}

// Error is the payload of the hub's answer to what it could not take.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Refused is how many messages this is about, and RetryAfterMs when to go on; with CodeRateLimited.
	Refused      int   `json:"refused,omitempty"`
	RetryAfterMs int64 `json:"retryAfterMs,omitempty"`
}

// Drain is the payload that announces the end of a hub.
type Drain struct {
	ReconnectAfterMs int64 `json:"reconnectAfterMs"` // each spoke gets its own
}

// Auth is the payload of __auth.
type Auth struct {
	Token string `json:"token"`
}

// Authed is the payload of the answer to a token that is taken.
type Authed struct {
	ExpiresInMs int64 `json:"expiresInMs,omitempty"` // as in Welcome
	// Unsubscribed are the subscriptions that the new token does not allow any more.
	Unsubscribed []string `json:"unsubscribed,omitempty"`
}

// Topics is the payload of subscriptions and of their answers.
type Topics struct {
	Topics []string `json:"topics"`
}

// Control returns an envelope of a reserved type. The payload is one of the types of this file.
func Control(typ, id string, payload any) Envelope {
	e, err := NewEnvelope(typ, id, payload)
	if err != nil {
		panic(fmt.Sprintf("codec: control event %s: %v", typ, err)) // strings are made valid by the callers
	}
	return e
}

// NamesMoreThan reports whether the payload of a __subscribe or __unsubscribe holds more strings than max
// topics and the names of their fields are. It looks no further than that, so that one message with
// thousands costs next to nothing.
func NamesMoreThan(max int, e Envelope) bool {
	const fields = 2 // "topic" and "topics"
	quotes := 0
	for rest := []byte(e.Payload); quotes <= 2*(max+fields); {
		i := bytes.IndexAny(rest, "\"\\")
		if i < 0 {
			return false
		}
		if rest[i] == '"' {
			quotes++
		} else {
			i++ // what is escaped
		}
		rest = rest[i+1:]
	}
	return true
}

// ParseTopics reads the topics that a __subscribe or __unsubscribe names: {"topic":"a:1"},
// {"topics":["a:1","b:*"]}, a bare string, or with a null payload the envelope's id.
func ParseTopics(e Envelope) ([]Pattern, error) {
	names, err := topicNames(e)
	if err != nil {
		return nil, err
	}
	patterns := make([]Pattern, 0, len(names))
	for _, name := range names {
		p, err := ParsePattern(name)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}

func topicNames(e Envelope) ([]string, error) {
	payload := bytes.TrimSpace(e.Payload)
	if len(payload) == 0 || string(payload) == "null" {
		return []string{e.ID}, nil
	}
	if payload[0] == '"' {
		var name string
		if err := sonic.ConfigStd.Unmarshal(payload, &name); err != nil {
			return nil, err
		}
		return []string{name}, nil
	}
	var body struct {
		Topic  *string   `json:"topic"`
		Topics *[]string `json:"topics"`
	}
	if payload[0] != '{' || sonic.ConfigStd.Unmarshal(payload, &body) != nil || body.Topic == nil && body.Topics == nil {
		return nil, fmt.Errorf(`codec: payload of %s must be {"topic":"type:id"}, {"topics":[...]}, a string, or null with the topic as id`, e.Type)
	}
	var names []string
	if body.Topic != nil {
		names = append(names, *body.Topic)
	}
	if body.Topics != nil {
		names = append(names, *body.Topics...)
	}
	return names, nil
}

// Pretouch compiles sonic's codecs for the types of this package, which would otherwise happen when
// the first of each is sent.
func Pretouch() {
	for _, v := range []any{Welcome{}, Gap{}, Error{}, Drain{}, Topics{}, Auth{}, Authed{}} {
		if err := sonic.Pretouch(reflect.TypeOf(v)); err != nil {
			panic("codec: pretouch: " + err.Error())
		}
	}
}
