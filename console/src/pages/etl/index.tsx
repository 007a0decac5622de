// ETL.
import { Page } from "../../ui";

export default function EtlPage() {
  return <Page title="ETL" />;
}
