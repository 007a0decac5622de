package rustmqtest_test

import (
	"os"
	"strings"
	"testing"

	rustmq "rustmq.dev/rustmq/sdk/go"
	"rustmq.dev/rustmq/sdk/go/rustmqtest"
)

func TestTransformsAreDeployedAndTurnedOff(t *testing.T) {
	t.Parallel()
	client := rustmqtest.Start(t).Client(t)
	admin, ctx := client.Admin(), within(t, moments)
	topic(t, client, rustmq.Topic{Name: "users", Partitions: 1})
	version, err := admin.DeployModule(ctx, "hide", rustmq.Deployment{Battery: "mask", Spec: map[string]any{
		"mode": "inline", "topics": []string{"users"}, "config": map[string]any{"fields": []map[string]any{{"path": "card", "action": "mask", "keep_last": 4}}},
	}})
	if err != nil || version != 1 {
		t.Fatalf("%d, %v", version, err)
	}
	m, err := admin.Module(ctx, "hide")
	if err != nil || m.State != "active" || m.Active != 1 || len(m.Versions) != 1 || len(m.Versions[0].Spec) == 0 {
		t.Errorf("%+v, %v", m, err)
	}
	send := func() {
		t.Helper()
		if err := client.ProduceSync(ctx, &rustmq.Record{Topic: "users", Value: []byte(`{"card":"4111111111111111"}`)}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	send()
	if err := admin.DisableModule(ctx, "hide", "a test"); err != nil {
		t.Fatal(err)
	}
	send()
	c, err := rustmq.NewConsumer(client, rustmq.Raw(), rustmq.ConsumerOptions{Topics: []string{"users"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var cards []string
	for len(cards) < 2 {
		got, err := c.Poll(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range got {
			cards = append(cards, string(m.Value))
		}
	}
	if !strings.Contains(cards[0], "************1111") || !strings.Contains(cards[1], "4111111111111111") {
		t.Errorf("%q", cards)
	}
	if err := admin.EnableModule(ctx, "hide", 0); err != nil {
		t.Fatal(err)
	}
	wasm, err := os.ReadFile("../../../test/data/etl/answers.wasm")
	if err != nil {
		t.Fatal(err)
	}
	if version, err = admin.DeployModule(ctx, "hide", rustmq.Deployment{Wasm: wasm, Spec: map[string]any{"mode": "inline", "topics": []string{"users"}}}); err != nil || version != 2 {
		t.Errorf("%d, %v", version, err)
	}
	if err := admin.RollbackModule(ctx, "hide", "a test"); err != nil {
		t.Fatal(err)
	}
	if modules, err := admin.Modules(ctx); err != nil || len(modules) != 1 || modules[0].Active != 1 {
		t.Errorf("%+v, %v", modules, err)
	}
	if err := admin.DeleteModule(ctx, "hide", true); err != nil {
		t.Fatal(err)
	}
}
