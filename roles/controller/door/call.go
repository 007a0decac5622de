package door

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/transport/rpc"
)

// undecidedError says that a method may have been run, or may still be.
type undecidedError struct{ cause error }

func (e *undecidedError) Error() string { return e.cause.Error() }
func (e *undecidedError) Unwrap() error { return e.cause }

// call has the leading controller run a method, and tries again as far as that may be
// done, until ctx ends or patience does. What it did is in the image on return. Of a
// method that may have been run the error is RequestTimedOut.
func call[Q any, R reply](ctx context.Context, d *Door, m method[Q, R], q Q) (R, error) {
	if d.alone() {
		return m.run(ctx, d.opt.Local, q), nil
	}
	ctx, cancel := d.patient(ctx)
	defer cancel()
	for n := 0; ; n++ {
		r, err := try(ctx, d, m, q)
		if err == nil && !r.decided() {
			err = &undecidedError{errors.New("the controller ceased to lead")}
		}
		if _, undecided := errors.AsType[*undecidedError](err); !undecided {
			return r, err
		}
		if !m.mayAgain(ctx) || !d.pause(ctx, n) {
			var none R
			return none, mayHappen(m.name, err)
		}
	}
}

// callEach is call for things that are asked for side by side: those that are decided
// are not asked for again.
func callEach[T, Q any, E entry](ctx context.Context, d *Door, m method[Q, list[E]], things []T, request func([]T) Q, failed func(int, error) E) []E {
	results := make([]E, len(things))
	if len(things) == 0 {
		return results
	}
	if d.alone() {
		return m.run(ctx, d.opt.Local, request(things)).Entries
	}
	ctx, cancel := d.patient(ctx)
	defer cancel()
	left := make([]int, len(things)) // of things, what is not decided
	for i := range left {
		left[i] = i
	}
	for n := 0; ; n++ {
		part := make([]T, len(left))
		for i, at := range left {
			part[i] = things[at]
		}
		r, err := try(ctx, d, m, request(part))
		if err == nil && len(r.Entries) != len(part) {
			err = metadata.Errorf(metadata.UnknownServerError, "%s: %d answers to %d questions", m.name, len(r.Entries), len(part))
		}
		if err == nil {
			left = place(results, left, r.Entries)
			if len(left) == 0 {
				return results
			}
			err = &undecidedError{errors.New("the controller ceased to lead")}
		}
		_, undecided := errors.AsType[*undecidedError](err)
		if undecided && m.mayAgain(ctx) && d.pause(ctx, n) {
			continue
		}
		if undecided {
			err = mayHappen(m.name, err)
		}
		for _, at := range left {
			results[at] = failed(at, err)
		}
		return results
	}
}

// place puts the answers that decide where they belong, and returns where the others do.
func place[E entry](results []E, at []int, answers []E) (left []int) {
	for i, a := range answers {
		if a.outcome().undecided() {
			left = append(left, at[i])
		} else {
			results[at[i]] = a
		}
	}
	return left
}

// alone reports whether there is no controller but the one of this process: what it
// cannot do nobody can, nor is there another to wait for.
func (d *Door) alone() bool {
	return d.opt.Local != nil && len(d.addresses(d.Image())) == 0
}

// patient bounds a call by patience, and by Close.
func (d *Door) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d.opt.Patience)
	stop := context.AfterFunc(d.open, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

func mayHappen(what string, cause error) error {
	return metadata.Errorf(metadata.RequestTimedOut, "%s was asked of a controller, and may have happened or still happen: %v", what, cause)
}

// try has a method run once. Who does not lead, or is not there, has not run it. An
// [*undecidedError] says that it may have been run.
func try[Q any, R reply](ctx context.Context, d *Door, m method[Q, R], q Q) (r R, err error) {
	var body []byte
	name, hops := m.name, 0
	for n := 0; ; n++ {
		if local := d.opt.Local; local != nil && local.Leads() {
			return m.run(ctx, local, q), nil
		}
		if body == nil {
			if body, err = encode(q); err == nil {
				name, body, err = wrapped(ctx, m.name, body)
			}
			if err != nil {
				return r, err
			}
			if len(body) > rpc.MaxCall {
				return r, metadata.Errorf(metadata.PolicyViolation, "%s would take %d bytes, a controller takes %d at most: ask for less at a time", m.name, len(body), rpc.MaxCall)
			}
		}
		answer, hop, err := d.send(ctx, name, max(m.time, commandTime), body)
		if untried, is := errors.AsType[*rpc.UntriedError](err); is {
			if hop && hops < maxHops {
				hops++
				continue
			}
			if d.pause(ctx, n) {
				continue
			}
			return r, metadata.Errorf(metadata.NotController, "%s: no controller that leads was found in time: %v", m.name, untried)
		}
		if err != nil {
			return r, err
		}
		if refused := answer.Refused; refused != nil {
			return r, &metadata.Error{Code: metadata.Code(refused.Code), Message: refused.Message}
		}
		d.note(answer.Offset)
		if err := decode(answer.Body, &r); err != nil {
			return r, &undecidedError{fmt.Errorf("the answer to %s: %w", m.name, err)}
		}
		return r, d.shown(ctx, m.name, answer.Offset)
	}
}

// maxHops is how often one try goes where it is sent without a pause.
const maxHops = 2

// send has whoever is thought to lead run a method. With an [*rpc.UntriedError] nothing
// was run, and hop says that somebody else was named; another error is undecided.
func (d *Door) send(ctx context.Context, method string, patience time.Duration, body []byte) (a rpc.Answer, hop bool, err error) {
	address := d.next()
	if address == "" {
		return a, false, &rpc.UntriedError{Address: "", Err: errors.New("no address of a controller is known")}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a, err = d.rpc.Call(ctx, address, rpc.Call{Broker: d.opt.Broker, Offset: d.Image().Offset(), Method: method, Body: body})
	if _, untried := errors.AsType[*rpc.UntriedError](err); untried {
		d.failed(address)
		return a, false, err
	}
	if err != nil {
		d.failed(address)
		return a, false, &undecidedError{err}
	}
	if u := a.Untried; u != nil {
		hop = u.Address != "" && u.Address != address
		switch {
		case hop:
			d.found(u.Address)
		case u.Address == "":
			d.failed(address)
		}
		return a, hop, &rpc.UntriedError{Address: address, Err: errors.New(u.Reason)}
	}
	d.found(address)
	return a, false, nil
}

// note keeps the offset of an answer: what follows of the metadata should come to it.
func (d *Door) note(offset uint64) {
	for {
		seen := d.seen.Load()
		if offset <= seen || d.seen.CompareAndSwap(seen, offset) {
			return
		}
	}
}

// shown waits until the image has what a method did.
func (d *Door) shown(ctx context.Context, method string, offset uint64) error {
	if method == heartbeat.name {
		return nil // see [Door.Heartbeat]
	}
	err := d.await(ctx, func(image *metadata.Image) bool { return image.Offset() >= offset })
	if err != nil {
		return metadata.Errorf(metadata.RequestTimedOut, "%s is done, but what this node knows of the metadata lags behind: it is at %d, the leader was at %d", method, d.Image().Offset(), offset)
	}
	return nil
}

// pause waits before another try, the longer the more there were; false: there is no
// time for one.
func (d *Door) pause(ctx context.Context, n int) bool {
	wait := longestPause
	if n < 5 {
		wait = min(wait, firstPause<<n)
	}
	timer := time.NewTimer(time.Duration(float64(wait) * (0.5 + d.opt.Rand()/2)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
