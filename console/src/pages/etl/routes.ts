// The pages of ETL.
import type { PageRoute } from "../../router";

export const routes: PageRoute[] = [{ path: "/etl", load: () => import("./index") }];
