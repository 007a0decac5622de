package admin

import "testing"

func TestQuotasAreShown(t *testing.T) {
	alice, app, ip := "alice", "app", "192.0.2.7"
	golden(t, "quotas", func(e *env) {
		e.showRates([]Quotas{
			{QuotaEntity{ClientID: &app}, map[string]float64{"request_percentage": 12.5}},
			{QuotaEntity{User: &alice, DefaultClientID: true}, map[string]float64{"producer_byte_rate": 10 << 20, "consumer_byte_rate": 500}},
			{QuotaEntity{IP: &ip}, map[string]float64{"connection_creation_rate": 20}},
			{QuotaEntity{DefaultUser: true}, map[string]float64{"controller_mutation_rate": 0.5}},
		})
	})
}
