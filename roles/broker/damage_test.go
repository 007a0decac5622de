package broker

import (
	"errors"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage"
)

func TestDamageIsBelievedForAWhile(t *testing.T) {
	var d damages
	now, why := time.Unix(1000, 0), errors.New("damaged")
	here := damagedAt{storage.PartitionID{Index: 1}, 7}
	if err := d.at(here, now); err != nil {
		t.Fatal(err)
	}
	d.note(here, why, now)
	if err := d.at(here, now.Add(damagePause-1)); err != why {
		t.Errorf("a moment later: %v", err)
	}
	if err := d.at(damagedAt{here.partition, 8}, now); err != nil {
		t.Errorf("another offset: %v", err)
	}
	if err := d.at(here, now.Add(damagePause)); err != nil {
		t.Errorf("after the pause: %v", err)
	}
	for offset := range storage.Offset(3 * maxDamages) {
		d.note(damagedAt{here.partition, offset}, why, now)
	}
	if len(d.known) > maxDamages {
		t.Errorf("%d are remembered", len(d.known))
	}
}
