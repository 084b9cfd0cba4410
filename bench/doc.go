// Package bench measures the whole hub over loopback sockets, beside the kernel's floor.
//
//	go test -run '^$' -bench . -short ./bench   1,000 spokes, about four minutes
//	go test -run '^$' -bench . ./bench          everything, about a quarter of an hour
//	scripts/bench-targets                       BenchmarkTargets, five pairs a row, with a table
//	scripts/bench-compare <ref>                 ten counts against another commit
//	scripts/bench-plots                         BenchmarkGrowth, drawn to docs/plots
//
// # Method
//
// The hub runs in this process, set up as cmd/hub does it. The clients and the floor are child
// processes, this test binary again: see package internal/fleet, which bench/peers shares. The
// clients cost as little as they can, but they share the machine with what is measured.
//
// The publisher keeps a window: at most so many events are dispatched and not yet read by every
// client that reads. Window 1 is the latency of one broadcast, 64 is a busy hub. The child reports
// through a pipe how many events are complete.
//
// BenchmarkCompressed gives turns to two hubs, each in a process of its own with clients of its own:
// together they have more connections than one may. A frame's length varies with what is in it, so
// these clients read every byte and cut frames by their headers, on both sides.
//
// BenchmarkFloor puts in the place of the hub one thread that does nothing but take what the window
// allows, already joined, and write(2) it to one descriptor after the other. No hub can be cheaper
// with a write per spoke; compare within one run, for machines differ and so do their moods.
//
// BenchmarkPages adds the operator's side, and streams as ten open pages have them, to a hub that delivers.
//
// # Units
//
//	cpu-ns/delivery   user and system time of the hub's process alone, publisher included
//	events/write      how many events a write(2) to a spoke carried: batching explains most differences
//	hub-cores         CPU seconds per second of the hub's process
//	client-cores      the same of the clients; near 1, their only thread is the busy side and the
//	                  hub waits for it: then look at cpu-ns/delivery, not at deliveries/s
//	plain-, deflated- of the hub without compression and with it: medians of the turns
//	cpu-ratio         CPU of the second divided by that of the first: median of the pairs of turns
//	core%             CPU of the hub's process with pages less that without, in hundredths of a core: median of the pairs
//	size-ratio        bytes per delivery of the first divided by those of the second
//	p50-ns, p99-ns    from just before Dispatch to just after the read(2), over all deliveries
//
// # What is checked
//
// In every run, timed or not, each client must have got exactly the bytes that were published, or
// where their number varies exactly as many messages: a loss, a repetition or anything unexpected fails the benchmark. One client in 64 also has every
// frame compared, the number in it included, after inflation if it was compressed; in the tests every
// client has.
package bench
