package recovery

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

const (
	// maxEntryBytes is what is read of an entry, a snapshot included.
	maxEntryBytes = 1 << 30
	// maxClusters is how many clusters of one bucket are told apart.
	maxClusters = 1000
)

// lastLog is the metadata log as the bucket has it.
type lastLog struct {
	image       *metadata.Image
	incarnation uint32 // of the last life
	next        uint64 // number of the entry that its log has next
	term        uint64 // of raft, the highest that is known
	entries     int    // that the image is made of
	written     time.Time
}

// Clusters returns the ids of the clusters that store under a prefix, in order.
func Clusters(ctx context.Context, b bucket.Bucket, prefix string) (ids []string, err error) {
	root := ""
	if prefix != "" {
		root = prefix + "/"
	}
	for after := ""; len(ids) < maxClusters; {
		id := ""
		err := b.List(ctx, root, after, func(i bucket.Info) bool {
			first, _, deeper := strings.Cut(i.Key[len(root):], "/")
			after = i.Key
			if deeper && object.CheckCluster(first) == nil {
				id = first
				return false
			}
			return true
		})
		if err != nil {
			return nil, fmt.Errorf("list the bucket: %w", err)
		}
		if id == "" {
			return ids, nil
		}
		ids = append(ids, id)
		after = root + id + "0" // behind all that begins with the id and a slash
	}
	return ids, nil
}

// readLog follows the log from the first life to the last.
func readLog(ctx context.Context, b bucket.Bucket, prefix, cluster string) (*lastLog, error) {
	l := &lastLog{incarnation: controller.FirstIncarnation, next: 1}
	var state *metadata.State
	for {
		next, err := l.readLife(ctx, b, controller.LogPrefix(prefix, cluster, l.incarnation), &state)
		if err != nil {
			return nil, err
		}
		if next == nil {
			break
		}
		// What the life before came to stands in the entry that ended it.
		l.incarnation, l.next, l.entries = next.Incarnation, 1, 1
		state = metadata.NewState()
		if err := state.Restore(next.Snapshot); err != nil {
			return nil, fmt.Errorf("read the entry that begins incarnation %d: %w", next.Incarnation, err)
		}
	}
	if state == nil {
		return nil, fmt.Errorf("the bucket has no metadata log of cluster %s under %s", cluster, controller.LogPrefix(prefix, cluster, l.incarnation))
	}
	l.image = state.Image()
	if is := l.image.ClusterID(); is != cluster {
		return nil, fmt.Errorf("the metadata log of cluster %s in the bucket is of cluster %q", cluster, is)
	}
	return l, nil
}

// readLife applies the entries of one life. It returns the one that ended it; nil: none.
func (l *lastLog) readLife(ctx context.Context, b bucket.Bucket, prefix string, state **metadata.State) (end *metadata.LogEntry, err error) {
	var numbers []uint64
	err = b.List(ctx, prefix, "", func(i bucket.Info) bool {
		if number, ok := controller.ParseLogKey(prefix, i.Key); ok {
			numbers = append(numbers, number)
			l.written = i.Modified
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("list the metadata log: %w", err)
	}
	// Back to the last snapshot, or to the first entry.
	var entries []*metadata.LogEntry
	for i := len(numbers) - 1; i >= 0; i-- {
		e, err := readEntry(ctx, b, controller.LogKey(prefix, numbers[i]), numbers[i])
		if err != nil {
			return nil, err
		}
		if before := len(entries); before > 0 && !guard.Check("recovery.no-gap", entries[before-1].Number == e.Number+1) {
			return nil, fmt.Errorf("the metadata log in the bucket has a gap: entry %d is there, and %s is not", entries[before-1].Number, controller.LogKey(prefix, e.Number+1))
		}
		l.term = max(l.term, e.Term)
		if e.Incarnation != l.incarnation {
			if i != len(numbers)-1 || e.Snapshot == nil || e.Incarnation < l.incarnation {
				return nil, fmt.Errorf("%s is of incarnation %d, and another entry follows", controller.LogKey(prefix, e.Number), e.Incarnation)
			}
			return e, nil
		}
		entries = append(entries, e)
		if e.Snapshot != nil {
			break
		}
	}
	if len(entries) == 0 {
		return nil, nil
	}
	slices.Reverse(entries)
	if first := entries[0]; first.Snapshot == nil && first.Number != 1 {
		return nil, fmt.Errorf("the metadata log in the bucket begins with %s, which is no snapshot: what was before it is missing", controller.LogKey(prefix, first.Number))
	}
	for _, e := range entries {
		if err := apply(state, e); err != nil {
			return nil, fmt.Errorf("apply %s: %w", controller.LogKey(prefix, e.Number), err)
		}
		l.next = e.Number + 1
	}
	l.entries += len(entries)
	return nil, nil
}

// apply carries out an entry.
func apply(state **metadata.State, e *metadata.LogEntry) error {
	if e.Snapshot != nil {
		*state = metadata.NewState()
		return (*state).Restore(e.Snapshot)
	}
	if *state == nil {
		*state = metadata.NewState()
	}
	for _, c := range e.Commands {
		if c.Index <= (*state).Image().Offset() {
			continue // the snapshot has it
		}
		if _, err := (*state).Apply(c.Index, c.Command); err != nil {
			return err
		}
	}
	return nil
}

func readEntry(ctx context.Context, b bucket.Bucket, key string, number uint64) (*metadata.LogEntry, error) {
	raw, err := bucket.ReadAll(ctx, b, key, maxEntryBytes)
	if err != nil {
		return nil, fmt.Errorf("read the metadata log: %w", err)
	}
	e, err := metadata.DecodeLogEntry(raw)
	if err == nil && e.Number != number {
		err = fmt.Errorf("entry %d of the metadata log stands there", e.Number)
	}
	if err == nil && e.Last == math.MaxUint64 {
		err = errors.New("it has no last index")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return e, nil
}
