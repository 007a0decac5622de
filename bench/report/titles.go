package report

// titles are the headings of figures, in the order in which they are measured.
func titles() []struct{ figure, title string } {
	return []struct{ figure, title string }{
		{"F1", "Produce, durable, against servers that keep memory or do not sync"},
		{"F2", "Consume"},
		{"F3", "One record at a time"},
		{"F4", "The WAL against a bare group-commit loop"},
		{"F5", "QUIC beside TCP with TLS"},
		{"F6", "What it costs"},
		{"B1", "What the bucket is asked, counted at an S3 server"},
		{"B2", "To and from the bucket, against a bare copy"},
		{"B3", "What produce and the tail notice of the bucket"},
		{"B4", "The block cache"},
		{"B5", "Compaction by key"},
		{"K1", "Many partitions and groups"},
		{"K2", "Beside Apache Kafka"},
		{"K3", "Three nodes beside three of Apache Kafka"},
		{"K4", "When a leader dies, or is moved"},
		{"K5", "What passes through three nodes, and a fourth that joins them"},
		{"K6", "The metadata of 100 brokers and 100,000 partitions, simulated"},
		{"K7", "What security costs, and how soon a rule is in force"},
		{"K8", "Transforms"},
		{"K9", "What producers notice of inline modules"},
		{"K10", "Asynchronous transforms, against a client outside"},
		{"K11", "The Go SDK beside franz-go, and QUIC beside TCP with TLS"},
		{"K12", "Streams of one connection, on a link of 20 ms and 1 % loss"},
		{"K13", "Connections on a link of 25 ms"},
		{"K14", "The transport that the SDK chooses"},
		{"K15", "The Rust SDK beside rdkafka, and QUIC beside TCP with TLS"}}
}

// Title is the heading of a figure; of one that is not measured any more, its name.
func Title(figure string) string {
	for _, t := range titles() {
		if t.figure == figure {
			return figure + ". " + t.title
		}
	}
	return figure
}
