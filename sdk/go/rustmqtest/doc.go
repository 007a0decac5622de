// Package rustmqtest gives a test a rustmq of its own, in one line: the whole server, with
// real storage, inside the test's process, on free ports of loopback.
//
//	func TestOrders(t *testing.T) {
//		server := rustmqtest.Start(t)
//		client := server.Client(t)
//		…
//	}
//
// It is ready in well under a second, ends with the test, and leaves nothing behind. Servers
// are independent of each other, so that tests with one each run in parallel.
package rustmqtest
