package loop

import "sync/atomic"

// RefusalReason says why a connection did not become a spoke, in logs and as a metric label.
type RefusalReason uint8

// The reasons.
const (
	RefusedBadRequest      RefusalReason = iota // not a WebSocket handshake, or not for us
	RefusedOrigin                               // a browser at a foreign origin
	RefusedFull                                 // Config.MaxSpokes
	RefusedFullForIP                            // Config.MaxSpokesPerIP
	RefusedDraining                             // the hub goes away
	RefusedTimeout                              // Config.HandshakeTimeout
	RefusedDescriptors                          // no descriptors or memory left
	RefusedUnauthenticated                      // by Config.Authenticate
	RefusedForbidden                            // topics beyond the claims
	RefusedAuth                                 // Config.Authenticate could not tell
	numRefusalReasons
)

var refusalReasonNames = [numRefusalReasons]string{
	"bad_request", "origin", "max_spokes", "max_spokes_per_ip", "draining", "handshake_timeout", "descriptors",
	"unauthenticated", "forbidden", "auth_unavailable",
}

func (r RefusalReason) String() string { return refusalReasonNames[r] }

// refusals counts by reason.
type refusals [numRefusalReasons]atomic.Uint64

func (r *refusals) add(why RefusalReason) { r[why].Add(1) }

// Stats is what the server has done and holds.
type Stats struct {
	Connections int // open, those not upgraded yet included
	Received    uint64
	Refused     map[RefusalReason]uint64
}

// Stats returns what the server has counted.
func (s *Server) Stats() Stats {
	st := Stats{
		Connections: s.conns.len(), Received: s.received.Load(),
		Refused: make(map[RefusalReason]uint64),
	}
	for r := range numRefusalReasons {
		st.Refused[r] = s.refusals[r].Load()
	}
	return st
}
