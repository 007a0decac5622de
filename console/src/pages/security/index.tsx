// Security.
import { Page } from "../../ui";

export default function SecurityPage() {
  return <Page title="Security" />;
}
