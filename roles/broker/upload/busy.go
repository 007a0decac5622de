package upload

import (
	"time"

	"rustmq.dev/rustmq/storage/wal"
)

// busyLook is the least time that is judged by.
const busyLook = look / 2

// busyDisk tells from two looks at a log how busy it had its disk between them.
type busyDisk struct {
	age, writing time.Duration // when it was last judged
	busy         bool
}

// look reports whether the log wrote and synced for more than half of the time since it
// was judged before.
func (b *busyDisk) look(s *wal.Stats) bool {
	writing := s.SyncTime + s.Syncing
	if passed := s.Age - b.age; passed >= busyLook {
		b.busy = 2*(writing-b.writing) > passed
		b.age, b.writing = s.Age, writing
	}
	return b.busy
}
