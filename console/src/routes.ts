// Which pages there are. Each area says its own, so that one is changed without the others; a page
// is loaded when it is first gone to.
import { routes as audit } from "./pages/audit/routes";
import { routes as brokers } from "./pages/brokers/routes";
import { routes as config } from "./pages/config/routes";
import { routes as controllers } from "./pages/controllers/routes";
import { routes as etl } from "./pages/etl/routes";
import { routes as groups } from "./pages/groups/routes";
import { routes as health } from "./pages/health/routes";
import { routes as overview } from "./pages/overview/routes";
import { routes as security } from "./pages/security/routes";
import { routes as topics } from "./pages/topics/routes";
import type { PageRoute } from "./router";

export const routes: PageRoute[] = [...overview, ...topics, ...groups, ...brokers, ...controllers, ...etl, ...security, ...audit, ...config, ...health];

export interface Area {
  path: string;
  title: string;
  asks?: string; // the call without which the area is not offered
}

export const areas: Area[] = [
  { path: "/", title: "Overview" },
  { path: "/health", title: "Health", asks: "GET /api/v1/cluster/health" },
  { path: "/topics", title: "Topics", asks: "GET /api/v1/topics" },
  { path: "/groups", title: "Groups", asks: "GET /api/v1/groups" },
  { path: "/brokers", title: "Brokers", asks: "GET /api/v1/brokers" },
  { path: "/controllers", title: "Controllers", asks: "GET /api/v1/controllers" },
  { path: "/etl", title: "ETL", asks: "GET /api/v1/etl/modules" },
  { path: "/security", title: "Security" },
  { path: "/audit", title: "Audit", asks: "GET /api/v1/audit" },
  { path: "/config", title: "Configuration", asks: "GET /api/v1/config" },
];
