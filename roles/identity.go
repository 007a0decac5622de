package roles

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/disk"
)

// identityFile names the node and what it belongs to, for all time:
// {"version":1,"cluster_id":"…","node_id":1,"directory_id":"32 hex digits"}.
const identityFile = "meta.json"

const identityVersion = 1

// identity is who this data directory is. A wiped directory gets a new
// directory id, so that nobody takes it for the member it was.
type identity struct {
	Version   int    `json:"version"`
	ClusterID string `json:"cluster_id,omitempty"` // empty until the first image is seen
	NodeID    int32  `json:"node_id"`
	Directory string `json:"directory_id"`
	// BucketNonce is what the cluster's bucket was last known by: 32 hex digits.
	BucketNonce string `json:"bucket_nonce,omitempty"`
	// WALID names the log in wal/: 32 hex digits; empty until there was one.
	WALID string `json:"wal_id,omitempty"`
	// LastRun is how the broker that had this directory last ended; "": nobody knows.
	LastRun lastRun `json:"last_run,omitempty"`
	// AckedBeforeSync: it acknowledged before the disk had what was acknowledged.
	AckedBeforeSync bool `json:"acked_before_sync,omitempty"`
	// Raft says whether raft/ has held a log. "" is of a node that had no part in a
	// group of several: it had one if it has a cluster.
	Raft raftLog `json:"raft,omitempty"`
	// Member is the directory id that the controller goes by, 32 hex digits; empty:
	// Directory. It is another one where raft/ was lost, which had votes in it: the
	// broker's logs in wal/ are those that they were.
	Member string `json:"controller_directory_id,omitempty"`
	// Audit is the newest record of this node's part of the audit log, about; nil: it has
	// written none.
	Audit *audit.Head `json:"audit,omitempty"`
	// Strays are topics whose records the broker keeps, though the life of the cluster that
	// was brought back from its bucket does not know them; nil: it was in none.
	Strays *strays `json:"strays,omitempty"`
}

// strays are [broker.Strays], with topic ids as Kafka prints them.
type strays struct {
	Incarnation uint64   `json:"incarnation"`
	Topics      []string `json:"topics"`
}

func (id identity) strays() (is broker.Strays, err error) {
	if id.Strays == nil {
		return is, nil
	}
	is.Incarnation = id.Strays.Incarnation
	for _, text := range id.Strays.Topics {
		topic, err := storage.ParseTopicID(text)
		if err != nil {
			return is, fmt.Errorf("read %s: it is damaged, in strays is no topic id: %w; restore it from a copy", identityFile, err)
		}
		is.Topics = append(is.Topics, topic)
	}
	return is, nil
}

func (id *identity) setStrays(is broker.Strays) {
	id.Strays = &strays{Incarnation: is.Incarnation, Topics: []string{}}
	for _, topic := range is.Topics {
		id.Strays.Topics = append(id.Strays.Topics, topic.String())
	}
}

// lastRun is what is known of the end of a broker.
type lastRun string

const (
	runBegun lastRun = "begun" // it has not come to its end, or not yet
	runClean lastRun = "clean" // its log was closed
)

// raftLog is what is known of the metadata log of a data directory.
type raftLog string

const (
	raftJoined raftLog = "joined" // there was one: an empty raft/ has lost it
	raftNone   raftLog = "none"   // the node has a cluster, and has never been a controller of it
)

// joined reports whether an empty raft/ is a lost one.
func (id identity) joined() bool {
	return id.Raft == raftJoined || id.Raft == "" && id.ClusterID != ""
}

// kept is the identity of a running node, which several of its parts add to.
type kept struct {
	dir disk.FS

	mu sync.Mutex
	id identity // guarded by mu; as in the file
}

// now is the identity as it is.
func (k *kept) now() identity {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.id
}

// change makes what f does to the identity durable.
func (k *kept) change(f func(*identity)) error {
	return k.saved(func(id *identity) error {
		f(id)
		return id.save(k.dir)
	})
}

// saved keeps what f does to the identity, and saves.
func (k *kept) saved(f func(*identity) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := k.id
	if err := f(&next); err != nil {
		return err
	}
	k.id = next
	return nil
}

// loadIdentity reads the identity, or makes one for an empty directory, and saves that.
func loadIdentity(dir disk.FS, nodeID int32) (identity, error) {
	id, fresh, err := readIdentity(dir, nodeID)
	if err == nil && fresh {
		err = id.save(dir)
	}
	return id, err
}

// readIdentity is loadIdentity, and leaves a fresh one to be saved.
func readIdentity(dir disk.FS, nodeID int32) (is identity, fresh bool, err error) {
	raw, err := disk.ReadFile(dir, identityFile)
	if errors.Is(err, fs.ErrNotExist) {
		id := identity{Version: identityVersion, NodeID: nodeID}
		if id.Directory, err = newDirectoryID(); err != nil {
			return identity{}, false, err
		}
		return id, true, nil
	}
	if err != nil {
		return identity{}, false, fmt.Errorf("read %s: %w", identityFile, err)
	}
	var id identity
	if err := json.Unmarshal(raw, &id); err != nil {
		return identity{}, false, fmt.Errorf("read %s: it is damaged (%w); restore it from a copy, a new one would make this another node", identityFile, err)
	}
	if id.Version > identityVersion {
		return identity{}, false, fmt.Errorf("the data directory was written by a newer rustmq (%s has version %d, this one knows %d): use that one", identityFile, id.Version, identityVersion)
	}
	if id.Version < 1 {
		return identity{}, false, fmt.Errorf("read %s: it is damaged, the version is %d; restore it from a copy", identityFile, id.Version)
	}
	if id.NodeID != nodeID {
		return identity{}, false, fmt.Errorf("this data directory belongs to node %d and the config says node %d: "+
			"set broker.id = %d (--node-id %d), or name another --data-dir", id.NodeID, nodeID, id.NodeID, id.NodeID)
	}
	if _, err := id.directoryID(); err != nil {
		return identity{}, false, err
	}
	if _, err := id.memberID(); err != nil {
		return identity{}, false, err
	}
	return id, false, nil
}

func newDirectoryID() (string, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", fmt.Errorf("make a directory id: %w", err)
	}
	return hex.EncodeToString(id[:]), nil
}

func (id identity) save(dir disk.FS) error {
	raw, err := json.Marshal(id)
	if err != nil {
		return err
	}
	if err := disk.WriteFileAtomic(dir, identityFile, append(raw, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", identityFile, err)
	}
	return nil
}

func (id identity) bucketNonce() (out [16]byte, err error) {
	if id.BucketNonce == "" {
		return out, nil
	}
	raw, err := hex.DecodeString(id.BucketNonce)
	if err != nil || len(raw) != len(out) {
		return out, fmt.Errorf("read %s: it is damaged, the bucket nonce is %q and not 32 hex digits; restore it from a copy", identityFile, id.BucketNonce)
	}
	copy(out[:], raw)
	return out, nil
}

func (id identity) directoryID() ([16]byte, error) {
	return parseDirectoryID("directory id", id.Directory)
}

// memberID is the directory id that the controller goes by.
func (id identity) memberID() ([16]byte, error) {
	if id.Member == "" {
		return id.directoryID()
	}
	return parseDirectoryID("directory id of the controller", id.Member)
}

func parseDirectoryID(what, text string) (out [16]byte, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(out) {
		return out, fmt.Errorf("read %s: it is damaged, the %s is %q and not 32 hex digits; restore it from a copy", identityFile, what, text)
	}
	copy(out[:], raw)
	return out, nil
}
