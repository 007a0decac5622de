package bucket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// List implements [Bucket].
func (d *Dir) List(ctx context.Context, prefix, after string, yield func(Info) bool) error {
	l := listing{d: d, ctx: ctx, prefix: prefix, after: after, yield: yield}
	err := d.there()
	if err == nil {
		_, err = l.walk("")
	}
	if err == nil { // else what is missing may have been another directory's
		err = d.there()
	}
	if err != nil {
		return d.failed(opList, prefix, err)
	}
	return nil
}

// listing walks a directory tree in the order of its keys.
type listing struct {
	d             *Dir
	ctx           context.Context
	prefix, after string
	yield         func(Info) bool
}

// walk lists what lies below a directory, which is "" or ends with a slash, and
// reports whether to go on.
func (l *listing) walk(below string) (more bool, err error) {
	names, err := l.d.fs.List(path.Join(l.d.dir, below))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, l.d.there()
	case err != nil:
		return false, fmt.Errorf("list %q: %w", below, err)
	}
	var found []Info // a directory's key ends with a slash, which is where it sorts
	for _, name := range names {
		key := below + name
		if !l.mayHold(key) || !validKey(key) {
			continue
		}
		st, err := l.d.fs.Stat(path.Join(l.d.dir, key))
		switch {
		case err == nil:
			found = append(found, Info{Key: key, Size: st.Size, Modified: st.Modified})
		case errors.Is(err, unix.EISDIR):
			found = append(found, Info{Key: key + "/"})
		case errors.Is(err, fs.ErrNotExist): // deleted meanwhile
		default:
			return false, fmt.Errorf("look at %s: %w", key, err)
		}
	}
	slices.SortFunc(found, func(a, b Info) int { return strings.Compare(a.Key, b.Key) })
	for _, o := range found {
		if err := l.ctx.Err(); err != nil {
			return false, err
		}
		switch {
		case strings.HasSuffix(o.Key, "/"):
			if more, err := l.walk(o.Key); !more || err != nil {
				return false, err
			}
		case strings.HasPrefix(o.Key, l.prefix) && o.Key > l.after && !l.yield(o):
			return false, nil
		}
	}
	return true, nil
}

// mayHold reports whether a file or directory of that path can be, or hold, a key
// that is asked for.
func (l *listing) mayHold(p string) bool {
	if !strings.HasPrefix(p, l.prefix) && !strings.HasPrefix(l.prefix, p+"/") {
		return false
	}
	return p > l.after || p+"0" > l.after // '0' follows '/': no key below p is larger
}
