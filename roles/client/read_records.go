package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ReadRecords reads records as `rustmq produce -f` does, one a line. Those that say no
// timestamp have now.
func ReadRecords(in io.Reader, format string) ([]*kgo.Record, error) {
	p := &produce{format: format, partition: -1}
	if err := p.prepare(); err != nil {
		return nil, err
	}
	var records []*kgo.Record
	for lines, number := bufio.NewReaderSize(in, 64<<10), 1; ; number++ {
		text, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		r, err := p.record(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if r.Timestamp.IsZero() {
			r.Timestamp = time.Now()
		}
		records = append(records, r)
	}
}
