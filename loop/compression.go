package loop

import (
	"strconv"

	"github.com/gobwas/httphead"
	"github.com/gobwas/ws/wsflate"
)

// The one way in which the hub compresses is permessage-deflate (RFC 7692) without context takeover
// in either direction: one compressed frame then serves every spoke, and between messages a
// connection holds nothing for it.

// accepted are the answers to an offer, without and with a server_max_window_bits of 15 in it.
var accepted = [2]httphead.Option{
	wsflate.Parameters{ServerNoContextTakeover: true, ClientNoContextTakeover: true}.Option(),
	wsflate.Parameters{ServerNoContextTakeover: true, ClientNoContextTakeover: true, ServerMaxWindowBits: maxWindowBits}.Option(),
}

const minWindowBits, maxWindowBits = 8, 15

// acceptOffer returns the answer to an offer of an extension, and reports false if it is declined:
// another extension, parameters that RFC 7692 section 7.1 does not know, with values that it does
// not allow, or twice, and a server_max_window_bits below 15, which would take a compressed frame of
// its own. A client_max_window_bits needs no answer, our inflater has the full window.
//
// Why not wsflate.Extension: it answers a window of 10 with one of 15, and what is to be declined
// fails the handshake.
func acceptOffer(offer httphead.Option) (answer httphead.Option, ok bool) {
	if string(offer.Name) != wsflate.ExtensionName {
		return answer, false
	}
	var seen [4]bool
	ok = true
	offer.Parameters.ForEach(func(name, value []byte) bool {
		var i int
		switch string(name) {
		case "server_no_context_takeover":
			i, ok = 0, value == nil
		case "client_no_context_takeover":
			i, ok = 1, value == nil
		case "server_max_window_bits":
			i, ok = 2, windowBits(value) == maxWindowBits
		case "client_max_window_bits":
			i, ok = 3, value == nil || windowBits(value) > 0
		default:
			ok = false
		}
		ok = ok && !seen[i]
		seen[i] = true
		return ok
	})
	if !ok {
		return answer, false
	}
	if seen[2] {
		return accepted[1], true
	}
	return accepted[0], true
}

// windowBits returns the size of a window, a number from 8 to 15 without leading zeros, or 0.
func windowBits(value []byte) int {
	for n := minWindowBits; n <= maxWindowBits; n++ {
		if string(value) == strconv.Itoa(n) {
			return n
		}
	}
	return 0
}

// negotiate is called for each extension that a client offers, in the order of its preference. The
// first offer of compression that can be accepted is; the answer without one is no extension.
func (h *handshaker) negotiate(offer httphead.Option) (httphead.Option, error) {
	if h.compressed {
		return httphead.Option{}, nil
	}
	answer, ok := acceptOffer(offer)
	h.compressed = ok
	return answer, nil
}
