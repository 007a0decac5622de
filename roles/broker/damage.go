package broker

import (
	"sync"
	"time"

	"rustmq.dev/rustmq/storage"
)

const (
	// damagePause is how long it is believed that what was damaged or missing in the
	// bucket still is. Clients ask again at once, each of them, for as long as it
	// takes: without a pause that is a storm on the store, and in the log.
	damagePause = time.Second

	// maxDamages bounds how many of them are remembered.
	maxDamages = 1000
)

// damages remembers what of the bucket could not be read, for [damagePause].
type damages struct {
	mu    sync.Mutex
	known map[damagedAt]damage // guarded by mu
}

type damagedAt struct {
	partition storage.PartitionID
	offset    storage.Offset // that was asked for
}

type damage struct {
	err   error
	until time.Time
}

// at returns why a place could not be read a moment ago; nil: it is to be tried.
func (d *damages) at(place damagedAt, now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known, ok := d.known[place]; ok && now.Before(known.until) {
		return known.err
	}
	return nil
}

// note remembers why a place cannot be read.
func (d *damages) note(place damagedAt, err error, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) >= maxDamages || d.known == nil {
		d.known = map[damagedAt]damage{}
	}
	d.known[place] = damage{err, now.Add(damagePause)}
}
