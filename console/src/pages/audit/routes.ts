import type { PageRoute } from "../../router";
import "./audit.css";

export const routes: PageRoute[] = [{ path: "/audit", load: () => import("./index") }];
