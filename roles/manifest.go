package roles

import (
	"errors"
	"fmt"
	"strings"

	"rustmq.dev/rustmq/storage/object"
)

// manifestLine is what debug object prints of a manifest.
type manifestLine struct {
	Manifest    string `json:"manifest"`
	Cluster     string `json:"cluster"`
	Incarnation uint32 `json:"incarnation"`
	Broker      int32  `json:"broker"`
	Key         string `json:"key"` // without the bucket's prefix
	Size        int64  `json:"size"`
	Topic       string `json:"topic"`
	TopicID     string `json:"topic_id"`
	Partition   int32  `json:"partition"`
	Base        int64  `json:"base"`
	End         int64  `json:"end"`
	Ranges      int    `json:"ranges"`
	CRC         string `json:"crc"` // of the entries
}

// filedLine is what it prints of a range that a manifest lists.
type filedLine struct {
	Object           string     `json:"object"`
	Key              string     `json:"key"`
	Size             int64      `json:"size"`
	Base             int64      `json:"base"`
	End              int64      `json:"end"`
	Bytes            int64      `json:"bytes"`
	MaxTimestamp     int64      `json:"max_timestamp"`
	Index            extentLine `json:"index"`
	Epoch            int32      `json:"epoch"`
	HasAborts        bool       `json:"has_aborts,omitempty"`
	OpenTransactions bool       `json:"open_transactions,omitempty"`
}

func (l manifestLine) text() string {
	return fmt.Sprintf("manifest %s cluster=%s incarnation=%d broker=%d size=%d ranges=%d entries=%s\nkey %s\nof %q %s/%d [%d, %d)",
		l.Manifest, l.Cluster, l.Incarnation, l.Broker, l.Size, l.Ranges, l.CRC, l.Key, l.Topic, l.TopicID, l.Partition, l.Base, l.End)
}

func (l filedLine) text() string {
	var s strings.Builder
	fmt.Fprintf(&s, "  [%d, %d) object %s size=%d bytes=%d max_timestamp=%d epoch=%d index@%d+%d crc=%s",
		l.Base, l.End, l.Object, l.Size, l.Bytes, l.MaxTimestamp, l.Epoch, l.Index.At, l.Index.Length, l.Index.CRC)
	if l.HasAborts {
		s.WriteString(" aborts")
	}
	if l.OpenTransactions {
		s.WriteString(" open")
	}
	return s.String()
}

// manifest returns what is printed when it is a manifest, whole; object.ErrNoManifest
// when it is none.
func (p *objectPrinter) manifest() (*object.Manifest, object.ManifestRef, error) {
	const most = object.ManifestHead + object.MaxManifestRanges*object.MaxFiledSize
	b := make([]byte, min(p.size, most+1))
	if err := p.readAt(b[:min(len(b), object.ManifestHead)], 0); err != nil {
		return nil, object.ManifestRef{}, err
	}
	if _, _, err := object.ReadManifest(b[:min(len(b), object.ManifestHead)]); errors.Is(err, object.ErrNoManifest) {
		return nil, object.ManifestRef{}, err
	}
	if err := p.readAt(b, 0); err != nil {
		return nil, object.ManifestRef{}, err
	}
	return object.ReadManifest(b)
}

func (p *objectPrinter) showManifest(m *object.Manifest, ref object.ManifestRef) error {
	err := p.print(manifestLine{
		Manifest: m.ID.String(), Cluster: m.Cluster, Incarnation: m.Incarnation, Broker: m.Broker,
		Key: object.Key("", m.Cluster, m.Incarnation, m.ID), Size: p.size,
		Topic: m.Topic, TopicID: m.Partition.Topic.String(), Partition: m.Partition.Index,
		Base: int64(ref.Base), End: int64(ref.End), Ranges: ref.Ranges, CRC: fmt.Sprintf("%08x", ref.CRC),
	})
	for i := range m.Ranges {
		if err != nil {
			return err
		}
		f := &m.Ranges[i]
		err = p.print(filedLine{
			Object: f.Object.String(), Key: object.Key("", m.Cluster, m.Incarnation, f.Object), Size: f.Size,
			Base: int64(f.Base), End: int64(f.End), Bytes: f.Bytes, MaxTimestamp: f.MaxTimestamp, Epoch: int32(f.Epoch),
			Index:     extentLine{At: f.Index.Position, Length: f.Index.Length, CRC: fmt.Sprintf("%08x", f.Index.CRC)},
			HasAborts: f.HasAborts, OpenTransactions: f.OpenTransactions,
		})
	}
	return err
}
