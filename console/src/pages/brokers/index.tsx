// Brokers.
import { Page } from "../../ui";

export default function BrokersPage() {
  return <Page title="Brokers" />;
}
