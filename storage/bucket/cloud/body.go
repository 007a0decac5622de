package cloud

import (
	"bytes"
	"io"
	"runtime"
)

// yieldEvery is how many bytes of background work are done before whoever else is ready to
// run on this processor does: some tenths of a millisecond.
const yieldEvery = 256 << 10

// body is what a request sends, from memory. The SDK sums a body before it sends it, by
// SHA-256 where there is no TLS: tens of milliseconds for a part. Whoever is ready waits
// behind that for the 10 ms after which Go takes a processor away, and with as many uploads
// as processors there is no other. So it is given out in steps, and others run between.
type body struct {
	*bytes.Reader
	data []byte
}

func newBody(data []byte) body { return body{bytes.NewReader(data), data} }

// WriteTo implements io.WriterTo.
func (b body) WriteTo(w io.Writer) (n int64, err error) {
	for err == nil && b.Len() > 0 {
		at := len(b.data) - b.Len()
		var m int
		m, err = w.Write(b.data[at:min(at+yieldEvery, len(b.data))])
		n += int64(m)
		if _, failed := b.Seek(int64(m), io.SeekCurrent); err == nil {
			err = failed
		}
		runtime.Gosched()
	}
	return n, err
}
