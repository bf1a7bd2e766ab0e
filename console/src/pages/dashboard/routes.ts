import type { RouteObject } from "react-router";

import { lazyPage } from "../../app/lazyPage";

export const dashboardRoutes: RouteObject[] = [
  { path: "", lazy: lazyPage(() => import("./index")) },
];
