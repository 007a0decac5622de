import type { PageRoute } from "../../router";
import "./health.css";

export const routes: PageRoute[] = [{ path: "/health", load: () => import("./index") }];
