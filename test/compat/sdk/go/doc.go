// Command go writes or reads what each SDK and client writes and reads alike:
//
//	go write BROKER TOPIC
//	go read BROKER TOPIC
//
// The topic has one partition. write produces eight records with each codec: with and without
// keys, values and headers, and with empty ones. read prints a line a record,
//
//	offset timestamp key value headers
//
// with bytes in hex, - for what is null or not there, and . for what is empty, up to
// the end of the topic as it was at the start. What two clients print of a topic is
// the same where both read the same.
package main
