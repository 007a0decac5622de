package roles

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/wal"
)

// walIDFile names the log in wal/, for as long as that lives:
// {"version":1,"id":"32 hex digits"}. meta.json names the same one. It is made once
// the log has a segment: a log with an id and no segment is a lost one.
const walIDFile = walDir + "/id"

const walIDVersion = 1

// walID is the content of walIDFile.
type walID struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
}

// LostWALError says that wal/ is not the log that meta.json names. Without that
// log what was acked and is not in the bucket is gone, and its offsets would be
// given to other records.
type LostWALError struct {
	Want  string // the id in meta.json
	Found string // what wal/ is instead
	Other bool   // there is another log in its place
}

// Error names both, and says what to do.
func (e *LostWALError) Error() string {
	accept := fmt.Sprintf("start once with wal.accept_lost = %q", e.Want)
	if e.Other {
		accept = "move this one away and " + accept
	}
	return fmt.Sprintf("the write-ahead log of this data directory is missing: meta.json names log %s, and %s/ %s; "+
		"mount it, or put it back. If it is lost, %s: what was acked and is not in the bucket is gone then, and its offsets are given out again",
		e.Want, walDir, e.Found, accept)
}

// checkWAL refuses a log that is not the one this directory had, before anything is
// opened, unless accept names the log that is given up. A directory of a version that
// gave logs no id takes what is there.
func (id *identity) checkWAL(dir disk.FS, accept string) error {
	found, err := readWALID(dir)
	if err != nil {
		return err
	}
	segments, err := hasSegments(dir)
	if err != nil {
		return err
	}
	lost := &LostWALError{Want: id.WALID, Other: segments}
	switch {
	case id.WALID == "" || found == id.WALID && segments:
		return nil
	case !segments:
		lost.Found = "is empty"
	case found == "":
		lost.Found = fmt.Sprintf("is one without an id (if it is the same, and only the file id is gone, write {\"version\":%d,\"id\":%q} to %s)", walIDVersion, id.WALID, walIDFile)
	default:
		lost.Found = "is log " + found
	}
	if !guard.Check("roles.lost-wal", accept == id.WALID && !segments) {
		return lost
	}
	// From here on it is a directory that has had no log: should the lost one come
	// back later, it is another one.
	if found != "" {
		if err := dir.Remove(walIDFile); err != nil {
			return fmt.Errorf("remove %s: %w", walIDFile, err)
		}
		if err := dir.SyncDir(walDir); err != nil {
			return fmt.Errorf("sync %s: %w", walDir, err)
		}
	}
	id.WALID = ""
	return id.save(dir)
}

// keepWALID remembers the log that was opened, and gives it an id if it has none.
// The log's own comes first: a crash between the two leaves one that is taken as it is.
func (id *identity) keepWALID(dir disk.FS) error {
	if id.WALID != "" {
		return nil
	}
	found, err := readWALID(dir)
	if err != nil {
		return err
	}
	if found == "" {
		var random [16]byte
		if _, err := rand.Read(random[:]); err != nil {
			return fmt.Errorf("make an id of the log: %w", err)
		}
		found = hex.EncodeToString(random[:])
		raw, err := json.Marshal(walID{walIDVersion, found})
		if err != nil {
			return err
		}
		if err := disk.WriteFileAtomic(dir, walIDFile, append(raw, '\n')); err != nil {
			return fmt.Errorf("write %s: %w", walIDFile, err)
		}
	}
	id.WALID = found
	return id.save(dir)
}

// remedy says what a person may do about a log that is damaged, "" for other errors.
func (id *identity) remedy(err error) string {
	if !errors.As(err, new(*wal.CorruptionError)) {
		return ""
	}
	start := "start again"
	if id.WALID != "" {
		start = fmt.Sprintf("start once with wal.accept_lost = %q", id.WALID)
	}
	return fmt.Sprintf("; put that file back as it was, or give the log up: keep a copy, move %s/ away and %s. "+
		"What is in the bucket stays; what was acked and is not there is gone then (`rustmq debug wal` shows what can be read of it)", walDir, start)
}

// readWALID returns the id of the log in wal/, "" when it has none.
func readWALID(dir disk.FS) (string, error) {
	raw, err := disk.ReadFile(dir, walIDFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", walIDFile, err)
	}
	var w walID
	if err := json.Unmarshal(raw, &w); err != nil {
		return "", fmt.Errorf("read %s: it is damaged (%w); if the log is that of this data directory, write {\"version\":%d,\"id\":\"ID\"} there, ID being the wal_id of %s", walIDFile, err, walIDVersion, identityFile)
	}
	if w.Version != walIDVersion {
		return "", fmt.Errorf("read %s: version %d, this rustmq knows %d", walIDFile, w.Version, walIDVersion)
	}
	if b, err := hex.DecodeString(w.ID); err != nil || len(b) != 16 {
		return "", fmt.Errorf("read %s: id %q: want 32 hex digits", walIDFile, w.ID)
	}
	return w.ID, nil
}

// hasSegments reports whether there is a file of a log in wal/.
func hasSegments(dir disk.FS) (bool, error) {
	names, err := dir.List(walDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look into %s: %w", walDir, err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "segment-") {
			return true, nil
		}
	}
	return false, nil
}
