// The page that says how the cluster stands.
import type { PageRoute } from "../../router";
import "./overview.css";

export const routes: PageRoute[] = [{ path: "/", load: () => import("./index") }];
