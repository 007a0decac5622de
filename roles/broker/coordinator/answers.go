package coordinator

import "sync/atomic"

// Deliver turns a typed answer function into one of any answer.
func Deliver[T any](answer func(T)) func(any) {
	return func(body any) { answer(body.(T)) }
}

// Collect calls ask n times and answer once, when each put was called: with what
// was put, in the order of the questions.
func Collect[T any](n int, ask func(i int, put func(T)), answer func([]T)) {
	all := make([]T, n)
	if n == 0 {
		answer(all)
		return
	}
	var left atomic.Int64
	left.Store(int64(n))
	for i := range n {
		ask(i, func(v T) {
			all[i] = v
			if left.Add(-1) == 0 {
				answer(all)
			}
		})
	}
}
