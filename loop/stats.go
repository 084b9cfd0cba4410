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
	RefusedTLS                                  // no TLS on a port with it, the other way round, or a handshake that failed
	RefusedRate                                 // Config.ConnectRate
	RefusedRateForIP                            // Config.ConnectRatePerIP
	RefusedTopicMemory                          // no room for more subscriptions
	RefusedMemory                               // SetTight
	numRefusalReasons
)

var refusalReasonNames = [numRefusalReasons]string{
	"bad_request", "origin", "max_spokes", "max_spokes_per_ip", "draining", "handshake_timeout", "descriptors",
	"unauthenticated", "forbidden", "auth_unavailable", "tls", "connect_rate", "connect_rate_per_ip", "topic_memory", "memory",
}

func (r RefusalReason) String() string { return refusalReasonNames[r] }

// refusals counts by reason.
type refusals [numRefusalReasons]atomic.Uint64

func (r *refusals) add(why RefusalReason) { r[why].Add(1) }

// Stats is what the server has done and holds.
type Stats struct {
	Connections int // open, those not upgraded yet included
	Received    uint64
	Suspensions uint64 // how often a spoke was not read from for a while, see Config.SpokeCPU
	Refused     map[RefusalReason]uint64
	TLS         TLSStats
}

// TLSStats is about the connections that have TLS, all zero without Config.TLS.
type TLSStats struct {
	Handshakes uint64 // completed
	Failed     uint64 // handshakes, those of peers that went away included
	Broken     uint64 // connections that broke TLS after it
	Running    int    // handshakes under way
	InLine     int    // handshakes that wait for their turn
}

// Stats returns what the server has counted.
func (s *Server) Stats() Stats {
	st := Stats{
		Connections: s.conns.len(), Received: s.received.Load(), Suspensions: s.suspensions.Load(),
		Refused: make(map[RefusalReason]uint64), TLS: s.shakers.stats(),
	}
	st.TLS.Broken = s.tlsFailures.Load()
	for r := range numRefusalReasons {
		st.Refused[r] = s.refusals[r].Load()
	}
	return st
}
