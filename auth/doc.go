// Package auth finds out from JSON Web Tokens (RFC 7519) what a spoke may do. Neither the hub nor the
// event loop know of tokens: [Verifier.Request] is a loop.Config.Authenticate, and [Verifier.Renew] a
// fanout.Config.Renew; who has another scheme puts functions of his own in their place.
//
// A token is never logged, and no error repeats a part of it.
package auth
