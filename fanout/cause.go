package fanout

import (
	"fmt"

	"github.com/alkdev/hub/codec"
)

// Side says who ended a connection.
type Side uint8

// The sides.
const (
	LocalSide Side = iota // the hub decided
	PeerSide              // the spoke decided, or vanished
)

func (s Side) String() string {
	if s == LocalSide {
		return "local"
	}
	return "peer"
}

// CauseKind is why a connection ended, in few words that serve as log attribute and metric label.
type CauseKind string

// The kinds.
const (
	KindNormal      CauseKind = "normal"          // a close without complaint, by either side
	KindGone        CauseKind = "gone"            // the connection ended without a close frame
	KindSlow        CauseKind = "slow"            // over a limit under the policy disconnect
	KindDrain       CauseKind = "drain"           // the hub goes away
	KindProtocol    CauseKind = "protocol"        // the peer broke RFC 6455
	KindBadData     CauseKind = "bad_data"        // invalid UTF-8
	KindTooBig      CauseKind = "too_big"         // a message over the limit
	KindPolicy      CauseKind = "policy"          // bad envelopes and other misbehaviour
	KindBadToken    CauseKind = "unauthenticated" // the token has expired
	KindPingTimeout CauseKind = "ping_timeout"    // no sign of life
	KindOther       CauseKind = "other"
)

// Cause says how a connection ended. The first cause counts.
type Cause struct {
	Side   Side
	Code   codec.CloseCode // CloseAbnormal if no close frame was seen or sent
	Reason string          // of the close frame, or what happened
	Kind   CauseKind
}

func (c Cause) String() string {
	return fmt.Sprintf("%s by %s: %d %s", c.Kind, c.Side, c.Code, c.Reason)
}

// CauseOf returns the cause for a close frame with the given code.
func CauseOf(side Side, code codec.CloseCode, reason string) Cause {
	c := Cause{Side: side, Code: code, Reason: reason, Kind: KindOther}
	switch code {
	case codec.CloseNormal, codec.CloseNoStatus:
		c.Kind = KindNormal
	case codec.CloseGoingAway:
		c.Kind = KindNormal
		if side == LocalSide {
			c.Kind = KindDrain
		}
	case codec.CloseAbnormal:
		c.Kind = KindGone
	case codec.CloseProtocolError:
		c.Kind = KindProtocol
	case codec.CloseInvalidUTF8:
		c.Kind = KindBadData
	case codec.ClosePolicy:
		c.Kind = KindPolicy
	case codec.CloseTooBig:
		c.Kind = KindTooBig
	case codec.CloseUnauthenticated:
		c.Kind = KindBadToken
	case codec.CloseSlow:
		c.Kind = KindSlow
	}
	return c
}
