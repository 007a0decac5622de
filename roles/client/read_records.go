package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ReadRecords reads up to most records as `rustmq produce -f` does, one a line, and reports
// whether there are more. Those that say no timestamp have now.
func ReadRecords(in io.Reader, format string, most int) (records []*kgo.Record, more bool, err error) {
	p := &produce{format: format, partition: -1}
	if err := p.prepare(); err != nil {
		return nil, false, err
	}
	for lines, number := bufio.NewReaderSize(in, 64<<10), 1; ; number++ {
		text, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			return records, false, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("line %d: %w", number, err)
		}
		if len(records) == most {
			return records, true, nil
		}
		r, err := p.record(text)
		if err != nil {
			return nil, false, fmt.Errorf("line %d: %w", number, err)
		}
		if r.Timestamp.IsZero() {
			r.Timestamp = time.Now()
		}
		records = append(records, r)
	}
}
