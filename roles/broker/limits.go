package broker

import "time"

// Limits that no configuration moves.
const (
	// A fetch response holds at most this many bytes of records, whatever the
	// client asks for; a single larger batch still goes out alone. Kafka's
	// fetch.max.bytes.
	maxFetchBytes = 55 << 20

	// A fetch waits at most this long, whatever it asks for.
	maxFetchWait = 5 * time.Minute

	// Fetch sessions, by number and by partitions: a session's partition takes
	// about 500 bytes, with its place in what it is found by and its waiter.
	maxSessions           = 10_000
	maxSessionPartitions  = 1 << 20
	maxSessionsConnection = 16

	// Requests that go to the controller wait at least, and at most, this long;
	// between the two the client's own time-out counts.
	minControllerWait = 5 * time.Second
	maxControllerWait = 2 * time.Minute

	// A broker that starts waits this long for a controller that leads to hear it;
	// Kafka's initial.broker.registration.timeout.ms.
	maxFirstBeatWait = time.Minute

	// A broker that stops says so to the controller, for at most this long;
	// unsaid, it is found out by its silence.
	maxLeaveWait = 2 * time.Second

	// One DescribeTopicPartitions response holds at most this many partitions;
	// Kafka's max.request.partition.size.limit.
	maxDescribedPartitions = 2000

	// Groups and subscriptions to metrics that one DescribeConfigs describes: those
	// have a configuration by being named.
	maxDescribedByName = 1000

	// Topics that one request makes on the side (auto-creation).
	maxAutoCreate = 1000

	// An error message in a response is cut to this length: it may quote input.
	maxErrorMessage = 400

	// Producers are told to slow down as the WAL fills from throttleFrom (of
	// its disk budget) on; at the end of the budget, by maxThrottle.
	throttleFrom = 0.90
	maxThrottle  = time.Second
	// followerFullFrom is how full, in thousandths, the WAL of a follower in sync is from
	// which on producers are refused: what is on its way to it then takes its reserve.
	followerFullFrom = 980
)
