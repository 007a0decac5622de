package roles

import (
	"encoding/json"
	"io"

	"rustmq.dev/rustmq/storage/batch"
)

// recordLine is what debug batch prints of a record.
type recordLine struct {
	Offset int64  `json:"offset"`
	Key    []byte `json:"key_base64"`
	Value  []byte `json:"value_base64"`
}

// printRecords prints the records of a batch, one JSON object a line.
func printRecords(w io.Writer, b batch.Batch) error {
	out := json.NewEncoder(w)
	it := b.Records(batch.DefaultMaxDecompressed)
	for it.Next() {
		r := it.Record()
		if err := out.Encode(recordLine{int64(r.Offset), r.Key, r.Value}); err != nil {
			return err
		}
	}
	return it.Err()
}
