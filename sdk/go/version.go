package rustmq

// Version of this module (semver.org). Brokers are told it with the client's name.
const Version = "0.1.0"
