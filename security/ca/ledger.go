package ca

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// ledgerFormat is that of ca.json.
const ledgerFormat = 1

// ledger is what the authority has done.
type ledger struct {
	Format       int          `json:"format"`
	Organization string       `json:"organization,omitempty"`
	CommonName   string       `json:"common_name"`
	KeyKind      string       `json:"key_kind"` // of roots and intermediates
	Sealed       bool         `json:"sealed"`   // their keys are, by a passphrase
	Generations  []Generation `json:"generations"`
	Certificates []*Record    `json:"certificates"`
}

// Generation is a root with its intermediate.
type Generation struct {
	Number     int       `json:"number"`
	Made       time.Time `json:"made"`
	Retired    bool      `json:"retired"`     // not trusted any more
	ListNumber int64     `json:"list_number"` // of its revocation list
}

// Record is a certificate that was issued.
type Record struct {
	Serial     string     `json:"serial"` // hexadecimal
	Name       string     `json:"name"`
	Profile    string     `json:"profile"`
	Subject    string     `json:"subject"` // as RFC 2253 has it: Kafka's principal without a mapping
	Hosts      []string   `json:"hosts,omitempty"`
	URIs       []string   `json:"uris,omitempty"`
	Emails     []string   `json:"emails,omitempty"`
	KeyKind    string     `json:"key_kind"`
	Generation int        `json:"generation"`
	Issued     time.Time  `json:"issued"`
	NotBefore  time.Time  `json:"not_before"`
	NotAfter   time.Time  `json:"not_after"`
	Revoked    *time.Time `json:"revoked,omitempty"`
	Reason     string     `json:"reason,omitempty"` // of the revocation
	Units      []string   `json:"units,omitempty"`  // organisational units of the subject
	Org        string     `json:"org,omitempty"`
}

// State is "valid", "revoked", "expired" or "not yet valid" at a time.
func (r *Record) State(now time.Time) string {
	switch {
	case r.Revoked != nil:
		return "revoked"
	case now.After(r.NotAfter):
		return "expired"
	case now.Before(r.NotBefore):
		return "not yet valid"
	}
	return "valid"
}

func readLedger(dir string) (*ledger, error) {
	file := filepath.Join(dir, ledgerFile)
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var l ledger
	if err := json.Unmarshal(raw, &l); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", file, err)
	}
	switch {
	case l.Format != ledgerFormat:
		return nil, fmt.Errorf("%s has the format %d; this version knows %d", file, l.Format, ledgerFormat)
	case len(l.Generations) == 0 || slices.Contains(l.Certificates, nil):
		return nil, fmt.Errorf("%s is damaged: it has no generation, or an empty record", file)
	}
	return &l, nil
}

func (c *CA) writeLedger() error {
	raw, err := json.MarshalIndent(c.ledger, "", "  ")
	if err != nil {
		return err
	}
	if err := replace(filepath.Join(c.dir, ledgerFile), append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	return nil
}

// newest is the generation that issues.
func (l *ledger) newest() *Generation { return &l.Generations[len(l.Generations)-1] }

// lock excludes other processes from the directory.
func lock(dir string) (unlock func() error, err error) {
	file, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("the authority in %s is in use by another command", dir), file.Close())
	}
	return file.Close, nil
}
