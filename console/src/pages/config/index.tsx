// Configuration.
import { Page } from "../../ui";

export default function ConfigPage() {
  return <Page title="Configuration" />;
}
