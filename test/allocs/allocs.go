package allocs

import "runtime"

// tries is how often what took too much may show that it takes less.
const tries = 5

// Within returns how many bytes f takes from the heap, freed since or not. Others in the
// process allocate meanwhile at times, the runtime among them: what f takes is in every try,
// so that more than most is believed only of the least of several.
func Within(most int64, f func()) (took int64) {
	for i := range tries {
		n := once(f)
		if i == 0 || n < took {
			took = n
		}
		if took <= most {
			break
		}
	}
	return took
}

func once(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}
