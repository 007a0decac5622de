package roles

import (
	"encoding/json"

	"rustmq.dev/rustmq/etl/batteries"
	"rustmq.dev/rustmq/roles/admin"
)

func shownBatteries() (shown []admin.Battery) {
	for _, b := range batteries.List() {
		shown = append(shown, admin.Battery{Name: b.Name, Doc: b.Doc, SHA256: b.SHA256, Bytes: int64(len(b.Wasm())), Example: json.RawMessage(b.Example)})
	}
	return shown
}

func battery(name string) ([]byte, bool) {
	b, known := batteries.Find(name)
	if !known {
		return nil, false
	}
	return b.Wasm(), true
}
