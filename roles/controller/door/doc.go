// Package door is the way to the controller that leads, from wherever one asks. A [Door]
// has the methods of a controller: it runs them on the controller of its own process
// while that leads, and has the leading one run them otherwise. A [Server] stands at the
// other end, on every controller. Between them is transport/rpc, port 9095.
//
// Promises.
//   - What a method changed is in [Door.Image] when it returns. The image never goes
//     back: a controller shows nothing older than what was seen of another.
//   - A method that was certainly not run (nobody was reached, or who was does not lead)
//     is tried again, at whom the answer names or at the next, with pauses, until its
//     context ends or Options.Patience does; then the code is NotController. One that
//     may have been run is tried again only where that does no harm (methods.go says it of each), and else
//     answered RequestTimedOut: the image tells. Of a list of things, what was
//     decided is not asked for again.
//   - A change with a condition ([controller.WithCondition]) is compared by the controller that
//     makes it, and not tried again once it may have been made.
//   - Errors come out as they went in: codes and messages of [metadata.Error], and the text of
//     what is around them.
//   - A call names the offset of the image that its caller has. Who leads no more without
//     knowing it, or leads and has not applied what was committed before, does not answer.
//   - A method is run for whom the certificate of the caller allows it (callers.go): a
//     broker's own for that broker, an operator's for controllers and admins.
//   - What comes from the network is bounded: a body by rpc.MaxCall, all larger ones of
//     a controller together by the same, and what they may take in memory by 16 times as
//     much, before they are read. A body that is none is refused.
//
// The image is that of the local controller, leading or not, or else follows a stream of
// deltas from any of the others: a broker's slice (RULES §4.2). After a break it goes on
// with what has changed, if the next controller still has the image to compare with,
// and with a whole one otherwise; a controller that knows no leader, or lags, is left for
// another. Who is slow to take images gets the latest.
//
// Every controller hears a broker that sends heartbeats, over a stream of its own, whose end
// shows the end of the broker's process (design/0015).
//
// What the leader alone knows, the time that may be believed and how far the log is in
// the bucket, comes with the answer to each heartbeat.
//
// Concurrency. All methods may be called by any goroutine, but not by what is called with
// an image: it would wait for itself. One goroutine follows, one delivers, one
// hurries the log, and one for each controller has it hear the broker; they block on the network or on subscribers, and Close waits for them.
package door
