package main

import (
	"errors"
	"fmt"
	"os"

	"rustmq.dev/rustmq/bench/floor"
)

// walCapacity is of the log and of the loop's file: both wrap around within it.
const walCapacity = 512 << 20

// loneAppends drives the bare loop with one append of 1 KiB in flight.
func loneAppends(dir string, records int) (loadResult, error) {
	dir, err := os.MkdirTemp(dir, "rustmq-floor-")
	if err != nil {
		return loadResult{}, err
	}
	defer os.RemoveAll(dir)
	loop, err := floor.OpenLoop(dir, walCapacity)
	if err != nil {
		return loadResult{}, err
	}
	r, err := floor.Drive(loop, floor.Shape{Size: 1 << 10, InFlight: 1}, records)
	if err := errors.Join(err, loop.Close()); err != nil {
		return loadResult{}, err
	}
	return loadResult{
		Records: int64(r.Appends), Seconds: r.Took.Seconds(),
		P50: float64(r.P50.Microseconds()), P99: float64(r.P99.Microseconds()),
	}, nil
}

// wal is F4: both sides in this process, one after the other.
func (r *run) wal() error {
	dir, err := os.MkdirTemp("", "rustmq-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	log, err := floor.OpenWAL(dir, walCapacity)
	if err != nil {
		return err
	}
	loop, err := floor.OpenLoop(dir, walCapacity)
	if err != nil {
		return errors.Join(err, log.Close())
	}
	// Runs of a second on a noisy disk: twice the pairs.
	r.pairs *= 2
	defer func() { r.pairs /= 2 }()
	for _, shape := range floor.Shapes {
		drive := func(a floor.Appender) measurement {
			return func() (loadResult, error) {
				res, err := floor.Drive(a, shape, shape.Appends())
				return loadResult{
					Records: int64(res.Appends), Bytes: int64(res.Appends) * int64(shape.Size), Seconds: res.Took.Seconds(),
					P50: float64(res.P50.Microseconds()), P99: float64(res.P99.Microseconds()),
				}, err
			}
		}
		if err := r.pair(row{Figure: "F4", Name: "appends of " + shape.String(), Unit: "×", Must: 0.8, Aim: 0.95, Bound: walBound},
			drive(log), drive(loop), rateRatio, func(a, b loadResult) string {
				return fmt.Sprintf("WAL %.1fk/s, p50 %.2f ms; loop %.1fk/s, p50 %.2f ms", a.rate()/1000, a.P50/1000, b.rate()/1000, b.P50/1000)
			}); err != nil {
			return errors.Join(err, loop.Close(), log.Close())
		}
	}
	return errors.Join(loop.Close(), log.Close())
}
