package admin

import (
	"context"
	"strconv"
	"time"

	"rustmq.dev/rustmq/security/audit"
)

// auditPace is the time between two looks at the audit log where there was more to read, so
// that who follows it from its start has a few MiB of it a second.
const auditPace = 100 * time.Millisecond

// AuditPosition says how far the audit log was looked at, where nothing of it was wanted.
type AuditPosition struct {
	Next int64 `json:"next" doc:"offset that is looked at next, in topic __audit"`
}

// AuditTrouble is why the audit log cannot be read for now.
type AuditTrouble struct {
	Detail string `json:"detail"`
}

// auditFollowed asks for what of the audit log is to be told as it is written.
type auditFollowed struct {
	AuditWanted
	After int64  `query:"after" default:"-1" doc:"offset from which on to tell; -1: what comes from now on"`
	Last  string `header:"Last-Event-ID" maxLength:"20" doc:"id of the event before, which a reader says that connects again: it goes on there, whatever after says"`
}

// stream tells events of the type audit, each an AuditEvent; at, an AuditPosition; and trouble, an
// AuditTrouble. The id is the offset to go on from.
func (a auditAPI) stream(_ context.Context, in *auditFollowed) (func(context.Context, sender) error, error) {
	f := &auditFollower{log: a.log, filter: in.filter(), next: in.After}
	if at, err := strconv.ParseInt(in.Last, 10, 64); err == nil && at >= 0 {
		f.next = at
	}
	return func(ctx context.Context, send sender) error {
		return f.follow(ctx, func(next int64, what any) error {
			event, id := "audit", strconv.FormatInt(next, 10)
			switch what.(type) {
			case AuditPosition:
				event = "at"
			case AuditTrouble:
				event, id = "trouble", "" // it is not known where one is
			}
			return send(event, id, what)
		})
	}, nil
}

// auditFollower hands on what of the audit log is wanted, as it is written.
type auditFollower struct {
	log    AuditLog
	filter audit.Filter
	// next is the offset that is looked at next; negative: only what comes from now on is
	// wanted.
	next int64
}

// follow hands each record that is wanted to send, with the offset behind it, until ctx ends or
// send fails, whose error it returns. Where nothing was wanted of what was looked at, it sends
// how far that is, so that who comes again need not have it looked at again. That the log
// cannot be read is sent once, and tried again.
func (f *auditFollower) follow(ctx context.Context, send func(next int64, what any) error) error {
	broken := false
	for {
		more, err := f.look(ctx, send)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			broken = false
		case err.sending != nil:
			return err.sending
		case !broken:
			broken = true
			if err := send(f.next, AuditTrouble{err.reading.Error()}); err != nil {
				return err
			}
		}
		pause := auditPoll
		if more {
			pause = auditPace
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// followFault is why a look did not succeed: the log could not be read, or nobody takes what
// is sent.
type followFault struct{ reading, sending error }

// look reads one page. more: another one is there already.
func (f *auditFollower) look(ctx context.Context, send func(next int64, what any) error) (more bool, fault *followFault) {
	from := f.next
	if from < 0 {
		from = behindAllAudit
	}
	page, err := f.log.ReadAudit(ctx, from)
	if err != nil {
		return false, &followFault{reading: err}
	}
	if f.next < 0 || f.next > page.End { // behind its end is who followed another log
		f.next = page.End
		if err := send(f.next, AuditPosition{f.next}); err != nil {
			return false, &followFault{sending: err}
		}
		return false, nil
	}
	told := false // the last record was sent, and with it how far that is
	for i := range page.Records {
		r := &page.Records[i]
		f.next = r.Offset + 1
		e, wanted := shownRecord(r, &f.filter)
		if told = wanted; !wanted {
			continue
		}
		if err := send(f.next, e); err != nil {
			return false, &followFault{sending: err}
		}
	}
	moved := page.Next > from
	f.next = max(f.next, page.Next)
	if moved && !told {
		if err := send(f.next, AuditPosition{f.next}); err != nil {
			return false, &followFault{sending: err}
		}
	}
	return f.next < page.End, nil
}
