package replication

import "time"

const (
	// DefaultLagTime is Kafka's replica.lag.time.max.ms at a third: what a follower lacks
	// is pushed to it, it need not ask.
	DefaultLagTime = 10 * time.Second

	// messageBytes is about what a message carries: what a fast device syncs in a few
	// milliseconds.
	messageBytes = 1 << 20
	// quantum is what one partition has of a message while others wait.
	quantum = 256 << 10
	// messageEntries bounds the partitions in a message.
	messageEntries = 4096
	// mostAnswers is how many histories are in a message: each may have many epochs.
	mostAnswers = 64
	// windowBytes is how much a follower may leave unconfirmed on a stream: two of the
	// largest messages, so that one is on its way while another is synced.
	windowBytes = 32 << 20
	// tailBytes is how much a follower may lack and stay on the stream of the tail; what
	// lacks more catches up on another (RULES 3.5), and returns below a quarter of it.
	tailBytes = 8 << 20
	// maxState bounds the state of a partition that begins anew: 100,000 producers.
	maxState = 32 << 20
	// stateChunk is a part of it.
	stateChunk = 1 << 20

	// beat is between two looks at what waits for time: idle streams, tries, lag.
	beat = 100 * time.Millisecond
	// noticeWait is how long a high watermark that has moved waits for records to go with,
	// and answerWait how long the word that a message has come does: alone each is a
	// message of its own, for every batch, on each side. The first is what a consumer of a
	// follower waits for on a quiet broker, the second is far below what the lease allows.
	noticeWait = 5 * time.Millisecond
	answerWait = 25 * time.Millisecond
	// reopen and reopenMost are between two tries to open a partition, or a stream.
	reopen     = 100 * time.Millisecond
	reopenMost = 2 * time.Second
	// sendPatience is how long a follower may take nothing before its stream is given up:
	// what is being sent pins the WAL's memory.
	sendPatience = 5 * time.Second
	// askPatience bounds a call of the controller.
	askPatience = 10 * time.Second
	// imagePatience is how long a follower waits for metadata that a leader has.
	imagePatience = 5 * time.Second
)

var defaultLimits = limits{
	lag: DefaultLagTime, slowFor: 3 * time.Second, slowTimes: 10, slowFloor: 10 * time.Millisecond, returnsFor: 10 * time.Second,
}
