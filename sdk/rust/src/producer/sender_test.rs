//! A producer against a broker that leads one of two partitions.

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
