package admin

const eventsPath = apiPath + "/events"
