// Package hostile attacks the daemon, and watches how those fare who behave.
//
// It holds tests only. Each attack is a line of a table (table_test.go): what the attacker does
// (attacks_test.go, in a process of its own) and the bounds that hold meanwhile. The hub is cmd/hub as
// users run it, so that its CPU and memory are measured from outside. A group of spokes takes a steady
// stream of events, one more asks and waits for answers, and others come and go (group_test.go): before
// the attack, under it and after it. No event and no connection of theirs may be lost. Afterwards the hub
// must be as it was.
//
// go test runs the short form. It has to hold beside the tests of everything else and with the race
// detector, where a hub may get a tenth of a core: so an attacker does a fixed amount of work, no times
// and no CPU are bounded, and nothing of the hub's own that depends on time may end a spoke that behaves.
//
// make hostile runs the long form, for SECONDS each, on a machine that does nothing else. An attacker
// never stops there, but it shares one core with those who behave and runs only when nobody else wants that: what
// is measured is the hub. Before, the same attack goes to another hub of the machine, so that it is known what it takes of the
// cores alone. What those who behave wait for may take twice as long as then, or as in quiet (the worse of before and
// after, in the same run), and what the hub does for the attackers first on top (table_test.go), and one
// slice of the kernel's scheduler.
package hostile
