// Who may reach the cluster, and what they may do: users, API tokens, access rules, certificates,
// quotas. What the user may not look at is not offered.
import { useMay } from "../../hooks";
import { Empty, Page, Tabs, type Tab } from "../../ui";
import { Certificates } from "./certificates";
import { Check } from "./check";
import { Quotas } from "./quotas";
import { Rules } from "./rules";
import { Tokens } from "./tokens";
import { Users } from "./users";

const tabs: (Tab & { asks: string })[] = [
  { id: "users", title: "Users", asks: "GET /api/v1/users", show: () => <Users /> },
  { id: "tokens", title: "API tokens", asks: "GET /api/v1/tokens", show: () => <Tokens /> },
  { id: "rules", title: "Access rules", asks: "GET /api/v1/acls", show: () => <Rules /> },
  { id: "check", title: "Who may what", asks: "POST /api/v1/acls/check", show: () => <Check /> },
  { id: "certificates", title: "Certificates", asks: "GET /api/v1/certificates", show: () => <Certificates /> },
  { id: "quotas", title: "Quotas", asks: "GET /api/v1/quotas", show: () => <Quotas /> },
];

export default function Security() {
  const may = useMay(tabs.map((t) => t.asks));
  const shown = tabs.filter((t) => may[t.asks]);
  return (
    <Page title="Security" sub="Who may reach the cluster, and what they may do.">
      {shown.length > 0 ? <Tabs label="Security" tabs={shown} /> : <Empty title="There is nothing here that you may see.">A rule that lets you describe the cluster shows it.</Empty>}
    </Page>
  );
}
