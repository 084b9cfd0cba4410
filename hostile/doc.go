// Package hostile attacks the daemon, and watches how those fare who behave.
//
// It holds tests only. Each attack is a line of a table (table_test.go): what the attacker does
// (attacks_*_test.go, in a process of its own) and the bounds that hold meanwhile. The hub is cmd/hub as
// users run it, so that its CPU and memory are measured from outside. A group of spokes takes a steady
// stream of events, one more asks and waits for answers, and others come and go (group_test.go): first
// in quiet, then under attack. No event and no connection of theirs may be lost, and what they wait
// for may take twice as long as in quiet, and a constant. Afterwards the hub must be as it was.
//
// make test runs the short forms, make hostile the long ones, for SECONDS each. Bounds on CPU, memory
// and time are those of a hub without the race detector; with it everything else is checked.
package hostile
