// Package fleet measures servers that send events to many WebSocket clients, and the kernel's floor
// beside them. It knows no server: what starts one is in bench, and in bench/peers for those of
// others.
//
//	func TestMain(m *testing.M) {
//		fleet.Main(nil) // does not return in a child process
//		os.Exit(m.Run())
//	}
//
// A Fleet is a child process, this binary again, whose one thread holds the clients, reads and counts.
// Unless a client is checked, the kernel discards its bytes without copying them, so that the clients
// cost as little as they can. A Window is the publisher's side: at most so many events are out that
// have not been read by every client. A Side is something that takes events to the clients of a
// fleet: a Source is one that is published to from here, a Floor is one thread in a child process
// that does it with bare write(2). Measure gives a Side a Load and returns a Turn. A comparison gives
// turns to several sides in a row, again and again, because the machine changes under a long
// measurement. A server that needs all the descriptors of a process is a Source in a child, which
// inherits the fleet.
//
// An Event is plain data: the bytes that a client receives, and where the number stands in them. A
// server whose frames are not always the same, because it joins several events into one or counts
// itself, is counted by an Event with a Marker; one whose frames vary in length, because it compresses
// them, by an Event with Messages.
package fleet
