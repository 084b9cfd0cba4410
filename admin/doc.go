// Package admin is the operator's HTTP side of a hub: events are published and watched here, spokes
// looked at and closed, metrics and health served, and a live page of all that. curl suffices to use it:
//
//	curl -d '{"type":"tick","id":"42","payload":{"price":7}}' http://127.0.0.1:8081/v1/events
//	curl -N 'http://127.0.0.1:8081/v1/events?topic=order:*'
//	curl 'http://127.0.0.1:8081/v1/spokes?sort=queued&limit=10'
//
// Every error is answered with {"error":{"code":"...","message":"...","index":n}}; index says which
// envelope of a batch is meant, from 0, where it is about one.
//
// It meets the owner of the connections only through the functions in [Loop].
package admin
