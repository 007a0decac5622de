//! A producer against a broker that leads one of two partitions.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::client::Client;
use crate::record::Record;
use crate::wire::fake;

#[tokio::test]
async fn a_partition_that_nobody_leads_does_not_hold_up_the_others_of_its_topic() {
    let broker = fake::broker(|_| None).await;
    let client = Client::builder().brokers([broker]).build().await.unwrap();
    let producer = client.producer().delivery_timeout(Duration::from_secs(600)).build().unwrap();
    let stuck = producer.enqueue(Record::to("t").partition(0).value("waits")).await.unwrap();
    let all = async {
        for _ in 0..20 {
            let sent = producer.send(Record::to("t").partition(1).value("goes")).await.unwrap();
            assert_eq!((sent.partition, sent.offset), (1, 40));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("records of the other partition go");
    drop(stuck);
    client.close().await;
}

/// Long before it is known that the broker is gone.
#[tokio::test]
async fn a_record_has_its_result_in_time_whatever_the_broker_does() {
    let client = Client::builder().brokers([fake::deaf().await]).build().await.unwrap();
    let producer = client.producer().delivery_timeout(Duration::from_secs(1)).build().unwrap();
    let sent = producer.send(Record::to("t").partition(1).value("waits"));
    match tokio::time::timeout(Duration::from_secs(20), sent).await.expect("its result") {
        Err(Error::DeliveryTimeout { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(client.health().await.failed, 1);
    client.close().await;
}

/// The answer to the first attempt is lost, and the broker takes nothing more from this producer: under another id it
/// might be there twice.
#[tokio::test]
async fn what_may_be_written_is_not_sent_again_under_another_id() {
    for lost in [true, false] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let broker = fake::taking(move || match count.fetch_add(1, Ordering::SeqCst) {
            0 if lost => None,
            n if n == usize::from(lost) => Some(Code::InvalidProducerEpoch.code()),
            _ => Some(0),
        })
        .await;
        let client = Client::builder().brokers([broker]).build().await.unwrap();
        let producer = client.producer().delivery_timeout(Duration::from_secs(600)).build().unwrap();
        let sent = producer.send(Record::to("t").partition(1).value("once"));
        match tokio::time::timeout(Duration::from_secs(60), sent).await.expect("its result") {
            Err(e) if lost => assert_eq!(e.code(), Some(Code::InvalidProducerEpoch)),
            Ok(sent) if !lost => assert_eq!(sent.offset, 40),
            other => panic!("{other:?}"),
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        let next = producer.send(Record::to("t").partition(1).value("goes on"));
        tokio::time::timeout(Duration::from_secs(60), next).await.expect("its result").unwrap();
        client.close().await;
    }
}
