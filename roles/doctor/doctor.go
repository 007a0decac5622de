package doctor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"rustmq.dev/rustmq/configs"
)

// Options of an examination.
type Options struct {
	// Config is what the host is to run.
	Config *configs.Config
	// Root is where /proc and /sys are looked for; "": the host's own.
	Root string
	// Now is the clock by which certificates are judged; nil: time.Now.
	Now func() time.Time
}

// host is where an examination reads.
type host struct {
	config *configs.Config
	root   string
	now    func() time.Time
}

// Examine looks at everything but the bucket. It takes some seconds, most of them to time
// syncs; ctx ends it early, and what was not looked at is skipped.
func Examine(ctx context.Context, o Options) []Check {
	h := host{o.Config, o.Root, o.Now}
	if h.now == nil {
		h.now = time.Now
	}
	var checks []Check
	for _, look := range []func(context.Context) []Check{
		h.disk, h.clock, h.limits, h.memory, h.network, h.ports, h.peers, h.certificates,
	} {
		checks = append(checks, look(ctx)...)
	}
	return checks
}

// has tells whether the node is to have a role.
func (h host) has(role string) bool { return slices.Contains(h.config.RoleList(), role) }

// read returns a file of the kernel without the space around it; "": there is none.
func (h host) read(name string) string {
	raw, err := os.ReadFile(filepath.Join("/", h.root, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// number reads a file that has a number.
func (h host) number(name string) (int64, bool) {
	n, err := strconv.ParseInt(h.read(name), 10, 64)
	return n, err == nil
}

// chosen is the word in brackets of a file that lists choices, such as "always [madvise]
// never"; "": there is no such file.
func (h host) chosen(name string) string {
	_, rest, _ := strings.Cut(h.read(name), "[")
	word, _, _ := strings.Cut(rest, "]")
	return word
}
